"""A short list of common nouns, so that keys and lists of words need no download."""

WORDS = (
    "apple", "arrow", "bench", "bird", "boat", "book", "bottle", "bread", "bridge", "candle", "castle", "chair",
    "clock", "cloud", "coat", "corn", "desk", "door", "drum", "engine", "farm", "feather", "fence", "field", "flag",
    "flower", "forest", "garden", "gate", "glass", "glove", "hammer", "harbor", "hat", "horse", "island", "jacket",
    "kettle", "ladder", "lake", "lamp", "letter", "market", "mirror", "moon", "mountain", "needle", "oven", "paper",
    "pencil", "piano", "pillow", "plate", "pocket", "river", "road", "roof", "rope", "sail", "school", "ship",
    "shoe", "spoon", "stone",
)  # fmt: skip
"""64 different words."""
