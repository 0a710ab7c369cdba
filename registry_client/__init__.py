"""The distribution client: pull from and push to registries."""
