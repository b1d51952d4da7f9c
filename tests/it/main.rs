mod commands;
mod configuration;
mod sandbox;
