//! The request engine: lookup, judge, coalesce, fetch, store and stream, respond. flow decides, drive performs.
