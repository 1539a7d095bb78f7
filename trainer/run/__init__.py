"""A run's folder, its configuration and its files. Imports no other room."""
