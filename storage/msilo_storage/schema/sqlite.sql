-- Kamailio's table `silo`, version 8: every column with its name and meaning. It writes and reads these alone, so
-- that ours, below them, all have defaults. SQLite does not hold text to a length.
CREATE TABLE IF NOT EXISTS {silo} (
    -- AUTOINCREMENT: the number of a message is never given to another.
    {id}          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    {src_addr}    TEXT    NOT NULL DEFAULT '',
    {dst_addr}    TEXT    NOT NULL DEFAULT '',
    {username}    TEXT    NOT NULL DEFAULT '',
    {domain}      TEXT    NOT NULL DEFAULT '',
    {inc_time}    INTEGER NOT NULL DEFAULT 0,
    {exp_time}    INTEGER NOT NULL DEFAULT 0,
    {snd_time}    INTEGER NOT NULL DEFAULT 0,
    {ctype}       TEXT    NOT NULL DEFAULT 'text/plain',
    {body}        BLOB,
    {extra_hdrs}  BLOB,
    {callid}      TEXT    NOT NULL DEFAULT '',
    -- 0: waits for delivery; 200: a device took it, and it is kept for others of its owner; otherwise set aside, with
    -- the status of the response that did it.
    {status}      INTEGER NOT NULL DEFAULT 0,

    -- CSeq number; -1 where Kamailio wrote the row.
    cseq        INTEGER NOT NULL DEFAULT -1,
    from_tag    TEXT    NOT NULL DEFAULT '',
    -- Header values as they were received, octet for octet.
    from_hdr    BLOB,
    to_hdr      BLOB,
    date_hdr    BLOB,
    -- 1: its sender is to be told if it can never be delivered (RFC 5438).
    imdn        INTEGER NOT NULL DEFAULT 0,
    -- How often it came again after it was stored.
    repeats     INTEGER NOT NULL DEFAULT 0,
    -- Deliveries begun and failed, deliveries after which a phone may have it, what the last one was answered, and
    -- when the next is due (Unix s, 0: at the next REGISTER).
    attempts    INTEGER NOT NULL DEFAULT 0,
    reached     INTEGER NOT NULL DEFAULT 0,
    last_status INTEGER NOT NULL DEFAULT 0,
    next_time   INTEGER NOT NULL DEFAULT 0,
    reason      TEXT    NOT NULL DEFAULT '',
    -- Devices that need it no more, separated by blanks, where each is to have it.
    taken_by    TEXT    NOT NULL DEFAULT '',
    -- Who delivers it at present, and until when (Unix ms) nobody else may.
    lease_node  TEXT    NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS {silo_account_idx} ON {silo} ({username}, {domain});

-- The oldest message that waits for an owner, without walking over those that do not wait.
CREATE INDEX IF NOT EXISTS {silo_waiting_idx} ON {silo} ({username}, {domain}, {id})
    WHERE {status} = 0 AND {snd_time} = 0;

-- Those of an owner that wait for a time of their own.
CREATE INDEX IF NOT EXISTS {silo_deferred_idx} ON {silo} ({username}, {domain}, {snd_time})
    WHERE {status} = 0 AND {snd_time} > 0;

-- Those whose time has come, of all owners.
CREATE INDEX IF NOT EXISTS {silo_due_idx} ON {silo} ({snd_time}) WHERE {status} = 0 AND {snd_time} > 0;

-- Those that are to be tried again, of all owners.
CREATE INDEX IF NOT EXISTS {silo_again_idx} ON {silo} (next_time) WHERE {status} IN (0, 200) AND next_time > 0;
-- What an earlier version had in its place knows nothing of what a device took.
DROP INDEX IF EXISTS {silo_retry_idx};

-- Those of an owner that a device took, kept for others.
CREATE INDEX IF NOT EXISTS {silo_taken_idx} ON {silo} ({username}, {domain}, {id}) WHERE {status} = 200;

-- Those that were set aside, of all owners, for an operator.
CREATE INDEX IF NOT EXISTS {silo_dead_idx} ON {silo} ({id}) WHERE {status} <> 0 AND {status} <> 200;

CREATE INDEX IF NOT EXISTS {silo_expiry_idx} ON {silo} ({exp_time});

-- Those whose sender is to be told when they expire.
CREATE INDEX IF NOT EXISTS {silo_imdn_idx} ON {silo} ({exp_time}) WHERE imdn <> 0;

-- What tells a repeat from a new message (RFC 3261 section 8.2.2.2).
CREATE UNIQUE INDEX IF NOT EXISTS {silo_repeat_idx} ON {silo} ({username}, {domain}, {callid}, cseq, from_tag)
    WHERE cseq >= 0;

-- Bindings of addresses of record (RFC 3261 section 10.3). The table is ours alone.
CREATE TABLE IF NOT EXISTS {silo_location} (
    username    TEXT    NOT NULL,
    domain      TEXT    NOT NULL,
    contact     TEXT    NOT NULL,
    params      BLOB    NOT NULL,
    -- Thousandths.
    q           INTEGER NOT NULL,
    -- Unix s.
    expires     INTEGER NOT NULL,
    callid      TEXT    NOT NULL,
    cseq        INTEGER NOT NULL,
    path        BLOB    NOT NULL,
    instance    BLOB    NOT NULL,
    reg_id      INTEGER NOT NULL,
    methods     BLOB    NOT NULL,
    -- The flow that the REGISTER came by, and the server that holds it.
    transport   TEXT    NOT NULL,
    local_host  TEXT    NOT NULL,
    local_port  INTEGER NOT NULL,
    remote_host TEXT    NOT NULL,
    remote_port INTEGER NOT NULL,
    flow_token  INTEGER NOT NULL,
    node        TEXT    NOT NULL,
    updated_ms  INTEGER NOT NULL,
    PRIMARY KEY (username, domain, contact)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS {silo_location_expiry_idx} ON {silo_location} (expires);

-- Kamailio's table `subscriber`, version 7: who may log in. The realm is the domain.
CREATE TABLE IF NOT EXISTS subscriber (
    id             INTEGER PRIMARY KEY NOT NULL,
    username       VARCHAR(64)  DEFAULT '' NOT NULL,
    domain         VARCHAR(64)  DEFAULT '' NOT NULL,
    -- Of whom we add it is empty.
    password       VARCHAR(64)  DEFAULT '' NOT NULL,
    -- MD5(username:domain:password), or where Kamailio hashes with SHA-256, that.
    ha1            VARCHAR(128) DEFAULT '' NOT NULL,
    ha1b           VARCHAR(128) DEFAULT '' NOT NULL,

    -- Those of the other algorithms of RFC 8760.
    ha1_sha256     VARCHAR(64) NOT NULL DEFAULT '',
    ha1_sha512_256 VARCHAR(64) NOT NULL DEFAULT '',
    -- ha1 as it was when these two were written: they are of an old password where another program has changed it.
    ha1_then       VARCHAR(128) NOT NULL DEFAULT '',
    CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
);
CREATE INDEX IF NOT EXISTS subscriber_username_idx ON subscriber (username);

-- Kamailio keeps the versions of all its tables here, and refuses to start when one differs.
CREATE TABLE IF NOT EXISTS version (
    id            INTEGER PRIMARY KEY NOT NULL,
    table_name    VARCHAR(32) NOT NULL,
    table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_table_name_idx UNIQUE (table_name)
);

INSERT INTO version (table_name, table_version)
    SELECT {silo_text}, 8 WHERE NOT EXISTS (SELECT 1 FROM version WHERE table_name = {silo_text});
INSERT INTO version (table_name, table_version)
    SELECT 'subscriber', 7 WHERE NOT EXISTS (SELECT 1 FROM version WHERE table_name = 'subscriber');
