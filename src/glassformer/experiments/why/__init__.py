"""Why transformers work: demonstrations with predictions made beforehand."""
