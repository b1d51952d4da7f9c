"""What is told of a result."""
def page(result):
    return ""
def write(result):
    pass
