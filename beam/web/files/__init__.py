"""The files API: files that stay, whole and in chunks, in a scope of their own."""
