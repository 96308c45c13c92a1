//! For tests only: scripted origins and clients, free ports, processes under test, MMDB fixtures.
