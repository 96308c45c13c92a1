//! Address to ranked PoPs: MMDB over bytes, prefix overrides, great-circle distance, steering, ECS scope. No IO, no clock.
