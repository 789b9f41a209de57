"""How notebooks show objects: pieces of HTML and SVG. They know nothing of what they show, and contain no scripts."""
