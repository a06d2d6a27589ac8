"""The one error of loading a model."""


class ModelError(ValueError):
    """A model that cannot be loaded or trained here. Its text says what is wrong and what to do about it."""
