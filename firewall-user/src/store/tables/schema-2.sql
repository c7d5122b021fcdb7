-- The day (since 1970) on which a word was last written: it can go when all rows of that time have gone.
ALTER TABLE names ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE names SET used = unixepoch() / 86400;

-- What has ended is numbered by when: `row` is the time of the end in ms since 1970, times 2^20, or the next
-- number from there that is free. So a range of rows is a range of time, and each index is in order of time
-- within its key, without a column for it.

CREATE TABLE past_sockets (
    row            INTEGER PRIMARY KEY,
    cookie         INTEGER NOT NULL,
    netns          INTEGER NOT NULL,
    own_netns      INTEGER NOT NULL,
    family         INTEGER NOT NULL,
    proto          INTEGER NOT NULL,
    state          INTEGER NOT NULL,
    local          BLOB,
    local_port     INTEGER NOT NULL,
    remote         BLOB,
    remote_port    INTEGER NOT NULL,
    uid            INTEGER NOT NULL,
    pid            INTEGER,
    comm           INTEGER,
    exe            INTEGER,
    user           INTEGER,
    unit           INTEGER,
    container      INTEGER,
    confidence     INTEGER NOT NULL,
    created        INTEGER,
    connect_us     INTEGER,
    sent_bytes     INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    sends          INTEGER NOT NULL,
    receives       INTEGER NOT NULL,
    segments_out   INTEGER NOT NULL,
    segments_in    INTEGER NOT NULL,
    rtt_us         INTEGER,
    retransmits    INTEGER NOT NULL,
    ended          INTEGER NOT NULL,
    flow           INTEGER,
    rule           INTEGER
) STRICT;

CREATE INDEX past_sockets_comm ON past_sockets (comm);
CREATE INDEX past_sockets_exe ON past_sockets (exe) WHERE exe IS NOT NULL;
CREATE INDEX past_sockets_unit ON past_sockets (unit) WHERE unit IS NOT NULL;
-- By the hour of the end first (3,600,000 ms times 2^20): there are many addresses, and the page of each would be
-- written anew with every row. Those of one hour are few.
CREATE INDEX past_sockets_remote ON past_sockets (row / 3774873600000, remote);
CREATE INDEX past_sockets_rule ON past_sockets (rule) WHERE rule IS NOT NULL;

CREATE TABLE past_flows (
    row           INTEGER PRIMARY KEY,
    flow          INTEGER NOT NULL,
    family        INTEGER NOT NULL,
    proto         INTEGER NOT NULL,
    src           BLOB,
    sport         INTEGER NOT NULL,
    dst           BLOB,
    dport         INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    direction     INTEGER NOT NULL,
    in_iface      INTEGER,
    out_iface     INTEGER,
    vlan          INTEGER NOT NULL,
    verdict       INTEGER NOT NULL,
    rule          INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    first         INTEGER,
    last          INTEGER,
    ended         INTEGER NOT NULL,
    packets       INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    reply_packets INTEGER NOT NULL,
    reply_bytes   INTEGER NOT NULL
) STRICT;

CREATE INDEX past_flows_src ON past_flows (row / 3774873600000, src);
CREATE INDEX past_flows_dst ON past_flows (row / 3774873600000, dst);
CREATE INDEX past_flows_dport ON past_flows (row / 3774873600000, dport);
CREATE INDEX past_flows_rule ON past_flows (rule);

-- Sums of the two tables above by hour (of the end) and one thing: a question over days needn't meet all their
-- rows. `dim` says which table and which thing; `key` is a number, a word's number (0: unknown), or an address
-- (empty: none). With 128 added to `dim` it is six hours, from one that is divisible by six, and `hour` the last of them.
CREATE TABLE past_hours (
    hour          INTEGER NOT NULL,
    dim           INTEGER NOT NULL,
    key           ANY NOT NULL,
    count         INTEGER NOT NULL,
    packets       INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    reply_packets INTEGER NOT NULL,
    reply_bytes   INTEGER NOT NULL,
    first         INTEGER NOT NULL,
    last          INTEGER NOT NULL,
    PRIMARY KEY (hour, dim, key)
) STRICT, WITHOUT ROWID;

-- What the kernel counted in each minute (of 60,000 ms since 1970), in two books that have every packet once
-- each: by verdict and reason, and by rule.
CREATE TABLE verdict_minutes (
    minute  INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    reason  INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (minute, verdict, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE rule_minutes (
    minute  INTEGER NOT NULL,
    rule    INTEGER NOT NULL,
    action  INTEGER NOT NULL,
    hits    INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (minute, rule, action)
) STRICT, WITHOUT ROWID;

-- What people and programs had the daemon do. `row` as above.
CREATE TABLE audit (
    row     INTEGER PRIMARY KEY,
    who     INTEGER NOT NULL,
    verb    INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
