"""Topics read again, outside the live group, into the same books: back-fill, repair, a look beforehand."""
