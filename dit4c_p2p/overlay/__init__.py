"""listen and dial: streams between named peers over SSH. Knows identity, and no component."""
