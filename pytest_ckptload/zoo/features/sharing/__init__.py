"""One tensor under several names, or in several places."""
