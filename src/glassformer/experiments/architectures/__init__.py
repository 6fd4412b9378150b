"""The study of architectures: decoders, encoders and encoder-decoders at equal cost."""
