"""Models made elsewhere: read, never run as they are, composed into what serves. May import all but `commands`."""
