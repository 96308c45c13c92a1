//! Small parsers that several rooms share: lists, tokens, quoted strings.
