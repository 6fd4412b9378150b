"""Studies built on the analyses and figures, one package each."""
