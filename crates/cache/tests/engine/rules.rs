//! Rules of HTTP caching beyond the everyday: what the RFCs allow a cache to do and few do.

use crate::{dialogue::play, world::World};

async fn edge(script: &str) {
    play(&World::edge().await, script).await;
}

#[tokio::test]
async fn what_a_post_brought_answers_later_gets() {
    edge(
        "
        reply /form 200 ; cache-control: max-age=60 ; content-location: /form | done
        POST /form => 200 done ; cache-status: *fwd=method*stored*
        GET /form => 200 done ; cache-status: *hit*
        HEAD /form => 200 ; cache-status: *hit*
        fetches 1
        POST /form => 200 done
        fetches 2
        reply /form 200 ; content-location: /form ; cache-control: no-store | again
        POST /form => 200 again
        GET /form => 200 again ; cache-status: *fwd=uri-miss*
        reply /other 200 ; cache-control: max-age=60 ; content-location: /form | elsewhere
        POST /other => 200 elsewhere
        GET /other => 200 elsewhere ; cache-status: *fwd=uri-miss*
    ",
    )
    .await;
}

#[tokio::test]
async fn a_language_that_is_wanted_most_needs_no_negotiation() {
    edge(
        "
        reply /l 200 ; cache-control: max-age=60 ; vary: accept-language ; content-language: de | deutsch
        GET /l ; accept-language: en, de => 200 deutsch
        GET /l ; accept-language: fr;q=0.5, de => 200 deutsch ; cache-status: *hit*
        reply /l 200 ; cache-control: max-age=60 ; vary: accept-language ; content-language: fr | francais
        GET /l ; accept-language: fr, de;q=0.9 => 200 francais ; cache-status: *fwd=vary-miss*
        GET /l ; accept-language: DE, fr;q=0.9 => 200 deutsch ; cache-status: *hit*
        GET /l ; accept-language: de-AT => 200 francais ; cache-status: *fwd=vary-miss*
    ",
    )
    .await;
}
