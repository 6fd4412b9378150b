"""The study of heads: what they attend to, and what a model loses without them."""
