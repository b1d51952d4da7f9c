// Placeholder: the script of the console.
