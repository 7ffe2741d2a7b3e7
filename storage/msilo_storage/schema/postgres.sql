-- Kamailio's table `silo`, version 8: every column with its name and meaning. Where Kamailio made the table, what
-- is missing is added, and what is there stays. VARCHAR without a length, for nothing may be cut, and not TEXT, which
-- Kamailio's driver reads as an escaped blob. Times are BIGINT, for Unix time outgrows INTEGER in 2038.
CREATE TABLE IF NOT EXISTS {silo} (
    {id}         BIGSERIAL PRIMARY KEY NOT NULL,
    {src_addr}   VARCHAR NOT NULL DEFAULT '',
    {dst_addr}   VARCHAR NOT NULL DEFAULT '',
    {username}   VARCHAR NOT NULL DEFAULT '',
    {domain}     VARCHAR NOT NULL DEFAULT '',
    {inc_time}   BIGINT  NOT NULL DEFAULT 0,
    {exp_time}   BIGINT  NOT NULL DEFAULT 0,
    {snd_time}   BIGINT  NOT NULL DEFAULT 0,
    {ctype}      VARCHAR NOT NULL DEFAULT 'text/plain',
    {body}       BYTEA,
    -- As Kamailio's blob encoder writes it: the literal text `\x`, then the octets in hexadecimal.
    {extra_hdrs} TEXT,
    {callid}     VARCHAR NOT NULL DEFAULT '',
    -- 0: waits for delivery; 200: a device took it, and it is kept for others of its owner; otherwise set aside, with
    -- the status of the response that did it.
    {status}     INTEGER NOT NULL DEFAULT 0
);

-- Indexes of a big table take long. While these are made Kamailio can still read; the next statement locks it out, and
-- would make those with a condition anew that are on a column that it widens.

-- In place of Kamailio's silo_account_idx (username, domain), which serves to find an owner's rows, but would now and
-- then be taken to find one row by owner and number as well, and then reads the whole inbox.
CREATE INDEX IF NOT EXISTS {silo_owner_idx} ON {silo} ({username}, {domain}, {id});

CREATE INDEX IF NOT EXISTS {silo_expiry_idx} ON {silo} ({exp_time});

-- Those whose time has come, of all owners. The sum keeps it from being taken to find those of one.
CREATE INDEX IF NOT EXISTS {silo_due_idx} ON {silo} ({snd_time}) WHERE {status} + 0 = 0 AND {snd_time} > 0;

-- Those that were set aside, of all owners, for an operator.
CREATE INDEX IF NOT EXISTS {silo_dead_idx} ON {silo} ({id}) WHERE {status} <> 0 AND {status} <> 200;

ALTER TABLE {silo}
    ALTER COLUMN {src_addr} TYPE VARCHAR,
    ALTER COLUMN {dst_addr} TYPE VARCHAR,
    ALTER COLUMN {username} TYPE VARCHAR,
    ALTER COLUMN {domain}   TYPE VARCHAR,
    ALTER COLUMN {ctype}    TYPE VARCHAR,
    ALTER COLUMN {callid}   TYPE VARCHAR,

    -- CSeq number; -1 where Kamailio wrote the row.
    ADD COLUMN IF NOT EXISTS cseq        INTEGER NOT NULL DEFAULT -1,
    ADD COLUMN IF NOT EXISTS from_tag    VARCHAR NOT NULL DEFAULT '',
    -- Header values as they were received, octet for octet.
    ADD COLUMN IF NOT EXISTS from_hdr    BYTEA,
    ADD COLUMN IF NOT EXISTS to_hdr      BYTEA,
    ADD COLUMN IF NOT EXISTS date_hdr    BYTEA,
    -- 1: its sender is to be told if it can never be delivered (RFC 5438).
    ADD COLUMN IF NOT EXISTS imdn        INTEGER NOT NULL DEFAULT 0,
    -- How often it came again after it was stored.
    ADD COLUMN IF NOT EXISTS repeats     INTEGER NOT NULL DEFAULT 0,
    -- Deliveries begun and failed, deliveries after which a phone may have it, what the last one was answered, and
    -- when the next is due (Unix s, 0: at the next REGISTER).
    ADD COLUMN IF NOT EXISTS attempts    INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS reached     INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS last_status INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS next_time   BIGINT  NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS reason      TEXT    NOT NULL DEFAULT '',
    -- Devices that need it no more, separated by blanks, where each is to have it.
    ADD COLUMN IF NOT EXISTS taken_by    TEXT    NOT NULL DEFAULT '',
    -- Who delivers it at present, and until when (Unix ms) nobody else may.
    ADD COLUMN IF NOT EXISTS lease_node  TEXT    NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS lease_until BIGINT  NOT NULL DEFAULT 0;

-- The oldest message that waits for an owner, without walking over those that do not wait.
CREATE INDEX IF NOT EXISTS {silo_waiting_idx} ON {silo} ({username}, {domain}, {id})
    WHERE {status} = 0 AND {snd_time} = 0;

-- Those of an owner that wait for a time of their own.
CREATE INDEX IF NOT EXISTS {silo_deferred_idx} ON {silo} ({username}, {domain}, {snd_time})
    WHERE {status} = 0 AND {snd_time} > 0;

-- Those that are to be tried again, of all owners. The sum keeps it from being taken to find those of one.
CREATE INDEX IF NOT EXISTS {silo_again_idx} ON {silo} (next_time) WHERE {status} + 0 IN (0, 200) AND next_time > 0;
-- What an earlier version had in its place knows nothing of what a device took.
DROP INDEX IF EXISTS {silo_retry_idx};

-- Those of an owner that a device took, kept for others.
CREATE INDEX IF NOT EXISTS {silo_taken_idx} ON {silo} ({username}, {domain}, {id}) WHERE {status} = 200;

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
    params      BYTEA   NOT NULL,
    -- Thousandths.
    q           INTEGER NOT NULL,
    -- Unix s.
    expires     BIGINT  NOT NULL,
    callid      TEXT    NOT NULL,
    cseq        BIGINT  NOT NULL,
    path        BYTEA   NOT NULL,
    instance    BYTEA   NOT NULL,
    reg_id      BIGINT  NOT NULL,
    methods     BYTEA   NOT NULL,
    -- The flow that the REGISTER came by, and the server that holds it.
    transport   TEXT    NOT NULL,
    local_host  TEXT    NOT NULL,
    local_port  INTEGER NOT NULL,
    remote_host TEXT    NOT NULL,
    remote_port INTEGER NOT NULL,
    flow_token  BIGINT  NOT NULL,
    node        TEXT    NOT NULL,
    updated_ms  BIGINT  NOT NULL,
    PRIMARY KEY (username, domain, contact)
);

CREATE INDEX IF NOT EXISTS {silo_location_expiry_idx} ON {silo_location} (expires);

-- Kamailio's table `subscriber`, version 7: who may log in. The realm is the domain. Only its owner may alter it, and
-- that may be Kamailio's: it is left alone where nothing is missing.
DO $$
BEGIN
    IF to_regclass('subscriber') IS NULL THEN
        CREATE TABLE subscriber (
            id       SERIAL PRIMARY KEY NOT NULL,
            username VARCHAR      DEFAULT '' NOT NULL,
            domain   VARCHAR      DEFAULT '' NOT NULL,
            -- Of whom we add it is empty.
            password VARCHAR(64)  DEFAULT '' NOT NULL,
            -- MD5(username:domain:password), or where Kamailio hashes with SHA-256, that.
            ha1      VARCHAR(128) DEFAULT '' NOT NULL,
            ha1b     VARCHAR(128) DEFAULT '' NOT NULL,
            CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
        );
        CREATE INDEX subscriber_username_idx ON subscriber (username);
    END IF;
    IF 3 > (
        SELECT count(*) FROM pg_attribute
        WHERE attrelid = to_regclass('subscriber') AND attname IN ('ha1_sha256', 'ha1_sha512_256', 'ha1_then')
    ) OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('subscriber') AND attname IN ('username', 'domain') AND atttypmod <> -1
    ) THEN
        ALTER TABLE subscriber
            -- Names of addresses of record are longer than Kamailio allows.
            ALTER COLUMN username TYPE VARCHAR,
            ALTER COLUMN domain   TYPE VARCHAR,
            -- The HA1s of the algorithms of RFC 8760.
            ADD COLUMN IF NOT EXISTS ha1_sha256     VARCHAR(64)  DEFAULT '' NOT NULL,
            ADD COLUMN IF NOT EXISTS ha1_sha512_256 VARCHAR(64)  DEFAULT '' NOT NULL,
            -- ha1 as it was when these two were written: they are of an old password where another program has
            -- changed it.
            ADD COLUMN IF NOT EXISTS ha1_then       VARCHAR(128) DEFAULT '' NOT NULL;
    END IF;
END
$$;

-- Kamailio keeps the versions of all its tables here, and refuses to start when one differs.
CREATE TABLE IF NOT EXISTS version (
    id            SERIAL PRIMARY KEY NOT NULL,
    table_name    VARCHAR(32) NOT NULL,
    table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_table_name_idx UNIQUE (table_name)
);

-- Where nothing is missing no right to write is needed.
DO $$
DECLARE
    added RECORD;
BEGIN
    FOR added IN
        SELECT * FROM (VALUES ({silo_text}, 8), ('subscriber', 7)) AS ours (name, number)
        WHERE NOT EXISTS (SELECT FROM version WHERE table_name = ours.name)
    LOOP
        INSERT INTO version (table_name, table_version) VALUES (added.name, added.number);
    END LOOP;
END
$$;
