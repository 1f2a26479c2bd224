"""Distribution and gradient matching: DM, DC, IDM, TGDD. ``loop.ENGINES`` maps names to classes."""
