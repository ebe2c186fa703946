"""Listen and dial: streams between named peers over SSH. Imports identity, and no component."""
