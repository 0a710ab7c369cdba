"""
What runs inside the zygote and its children, up to the command's execve.

These modules import the standard library and each other, nothing else: after pivot_root an import
would load code from the image, so everything is loaded before, and little is little to audit.
"""
