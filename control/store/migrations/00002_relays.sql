-- +goose Up
ALTER TABLE reg_keys ADD COLUMN role TEXT NOT NULL DEFAULT ''; -- what joins with it: '' devices, 'relay'

ALTER TABLE devices ADD COLUMN relays TEXT NOT NULL DEFAULT '[]'; -- ids, a JSON array: its home first

-- Stand-alone relays; they serve every network.
CREATE TABLE relays (
    id              TEXT PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    public_key      TEXT    NOT NULL UNIQUE,
    udp             TEXT    NOT NULL, -- a JSON array of host:port
    url             TEXT    NOT NULL,
    pin             TEXT    NOT NULL,
    credential_hash TEXT    NOT NULL UNIQUE,
    reg_key_id      TEXT    NOT NULL, -- kept after the key is gone
    version         TEXT    NOT NULL,
    alive           BOOLEAN NOT NULL, -- was heard of when the service last looked
    created         BIGINT  NOT NULL,
    last_seen       BIGINT  NOT NULL
);

-- Device keys that lost their membership while relay credentials of theirs may
-- still be valid: those that expire up to then do not count.
CREATE TABLE denials (
    network_id TEXT   NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    public_key TEXT   NOT NULL,
    until      BIGINT NOT NULL, -- whole seconds
    position   BIGINT NOT NULL UNIQUE, -- grows with each entry, new or changed
    PRIMARY KEY (network_id, public_key)
);

-- +goose Down
DROP TABLE denials;
DROP TABLE relays;
ALTER TABLE devices DROP COLUMN relays;
ALTER TABLE reg_keys DROP COLUMN role;
