//! Cache-Control of responses and requests, read leniently (RFC 9111 §5.2), and its targeted forms, read strictly (RFC 9213).
