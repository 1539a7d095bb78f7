"""The files that may be served, the choice among them, and the bundle. May import all but `search` and `report`."""
