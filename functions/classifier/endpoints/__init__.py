"""Requests in, replies out: the only room that knows Flask's routes. May import every other room."""
