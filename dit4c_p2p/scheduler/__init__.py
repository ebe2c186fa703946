"""Owns each instance's life: takes orders from its portal and has its nodes carry them out.

``lifecycle`` and ``placement`` decide and touch nothing; ``store`` writes down before anything is
done; ``driver`` does it; ``portal_link`` and ``nodes`` are the two lines it hangs on.
"""
