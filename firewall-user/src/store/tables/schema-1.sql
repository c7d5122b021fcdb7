-- Times are ms since 1970 (UTC). Addresses are blobs of 4 or 16 bytes. Words that come back often
-- stand in `names`.

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- `row` counts up as mappings begin. `to_*` is NULL where that end isn't translated. `span` says how
-- long the mapping lived: at most 4^span ms; 31 while it lives. So those that were live at a given
-- time are found by a short range of `start` for each span, however many there have been.
CREATE TABLE nat_bindings (
    row           INTEGER PRIMARY KEY,
    flow          INTEGER NOT NULL,
    origin        INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    proto         INTEGER NOT NULL,
    src           BLOB NOT NULL,
    sport         INTEGER NOT NULL,
    dst           BLOB NOT NULL,
    dport         INTEGER NOT NULL,
    to_src        BLOB,
    to_sport      INTEGER,
    to_dst        BLOB,
    to_dport      INTEGER,
    rule          INTEGER NOT NULL,
    start         INTEGER NOT NULL,
    span          INTEGER NOT NULL,
    end           INTEGER,
    reason        INTEGER,
    packets       INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL DEFAULT 0,
    reply_packets INTEGER NOT NULL DEFAULT 0,
    reply_bytes   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Ends find their row; small, as it holds live rows only.
CREATE UNIQUE INDEX nat_live ON nat_bindings (flow, origin) WHERE end IS NULL;
-- Who had a public source; who was behind a public destination.
CREATE INDEX nat_public_src ON nat_bindings (to_src, to_sport, span, start) WHERE to_src IS NOT NULL;
CREATE INDEX nat_public_dst ON nat_bindings (dst, dport, span, start) WHERE to_dst IS NOT NULL;
-- What an inside host had, as a client and as a server.
CREATE INDEX nat_client ON nat_bindings (src, start) WHERE to_src IS NOT NULL;
CREATE INDEX nat_server ON nat_bindings (to_dst, start) WHERE to_dst IS NOT NULL;

-- Port blocks by arithmetic (RFC 7422): who had a port follows from these numbers.
CREATE TABLE nat_blocks (
    row        INTEGER PRIMARY KEY,
    rule       INTEGER NOT NULL,
    inside     INTEGER NOT NULL,
    inside_len INTEGER NOT NULL,
    public     INTEGER NOT NULL,
    addresses  INTEGER NOT NULL,
    port_first INTEGER NOT NULL,
    port_last  INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    end        INTEGER
) STRICT;
