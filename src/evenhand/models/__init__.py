"""WHO IS ASKED. In: prompts. Out: samples; each adapter is any object with the members ``protocol.py`` names."""
