"""The versions, in order; a version that was released is never changed."""
