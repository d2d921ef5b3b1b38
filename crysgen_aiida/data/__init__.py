"""AiiDA node types: packed sets, trained generators, and the adapter to structure nodes."""
