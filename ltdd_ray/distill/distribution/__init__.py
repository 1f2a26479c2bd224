"""Distribution matching: DM and IDM. ``loop.ENGINES`` maps an engine's name to its class."""
