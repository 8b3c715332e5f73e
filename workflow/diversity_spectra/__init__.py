"""Training-data diversity as implicit regularisation, seen in the spectra of weight matrices."""

__version__ = "0.1.0"
