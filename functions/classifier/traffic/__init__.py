"""What instances count and operators read: counts, their drift, feedback. Imports the registry and storage."""
