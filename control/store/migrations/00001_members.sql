-- Times are milliseconds since 1970 (0: never), IPv4 addresses their number,
-- IPv6 addresses and keys text, hashes hexadecimal, tags a JSON array.

-- +goose Up
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE networks (
    id              TEXT PRIMARY KEY,
    name            TEXT   NOT NULL UNIQUE,
    domain          TEXT   NOT NULL,
    v4              TEXT   NOT NULL,
    v6              TEXT   NOT NULL,
    revision        BIGINT NOT NULL, -- of the last visible change
    pruned_revision BIGINT NOT NULL, -- tombstones up to here are forgotten
    next_v4         BIGINT NOT NULL  -- where the search for a free address goes on
);

CREATE TABLE reg_keys (
    id          TEXT PRIMARY KEY,
    network_id  TEXT    NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    secret_hash TEXT    NOT NULL UNIQUE,
    description TEXT    NOT NULL,
    single_use  BOOLEAN NOT NULL,
    ephemeral   BOOLEAN NOT NULL,
    reclaim     BOOLEAN NOT NULL,
    tags        TEXT    NOT NULL,
    created     BIGINT  NOT NULL,
    expires     BIGINT  NOT NULL,
    last_used   BIGINT  NOT NULL,
    uses        BIGINT  NOT NULL,
    used_by     TEXT    NOT NULL -- device id; kept after the device is gone
);
CREATE INDEX reg_keys_network ON reg_keys (network_id);

CREATE TABLE devices (
    id              TEXT PRIMARY KEY,
    network_id      TEXT    NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    name            TEXT    NOT NULL,
    public_key      TEXT    NOT NULL,
    v4              BIGINT  NOT NULL,
    v6              TEXT    NOT NULL,
    tags            TEXT    NOT NULL,
    ephemeral       BOOLEAN NOT NULL,
    credential_hash TEXT    NOT NULL UNIQUE,
    reg_key_id      TEXT    NOT NULL, -- kept after the key is gone
    version         TEXT    NOT NULL,
    os              TEXT    NOT NULL,
    created         BIGINT  NOT NULL,
    joined          BIGINT  NOT NULL,
    last_seen       BIGINT  NOT NULL,
    revision        BIGINT  NOT NULL,
    UNIQUE (network_id, name),
    UNIQUE (network_id, public_key),
    UNIQUE (network_id, v4),
    UNIQUE (network_id, v6)
);
CREATE INDEX devices_revision ON devices (network_id, revision);

-- Addresses that rest after their device went, for everybody but that key.
CREATE TABLE freed_addresses (
    network_id TEXT   NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    v4         BIGINT NOT NULL,
    public_key TEXT   NOT NULL,
    until      BIGINT NOT NULL,
    PRIMARY KEY (network_id, v4)
);

CREATE TABLE tombstones (
    network_id TEXT   NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    device_id  TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    PRIMARY KEY (network_id, device_id)
);
CREATE INDEX tombstones_revision ON tombstones (network_id, revision);

-- +goose Down
DROP TABLE tombstones;
DROP TABLE freed_addresses;
DROP TABLE devices;
DROP TABLE reg_keys;
DROP TABLE networks;
DROP TABLE settings;
