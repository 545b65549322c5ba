"""Questions about statements hidden in real text or in lists of words: passkey, and the offline part of RULER."""
