"""Instructions become steps and changes of the image's config."""
