//! Objects in memory and on disk over foyer: heads, segments, commit.
