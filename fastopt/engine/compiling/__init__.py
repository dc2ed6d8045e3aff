"""Compiled code: found in this process or in the cache, compiled here, or asked of another process."""
