//! Token verification for clients and backends: JWKS, scopes, minting
