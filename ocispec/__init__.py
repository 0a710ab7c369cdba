"""The vocabulary: digests, references, platforms, documents, error kinds; where content lives."""
