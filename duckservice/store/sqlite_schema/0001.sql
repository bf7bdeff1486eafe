-- Version 1: jobs with all that belongs to them, the ledger, files, batches, flags.
--
-- A job is its document, the JSON of core.job.Job; the columns beside it are what
-- SQL searches by, and what the store alone knows. A column that is searched by in
-- some states only is NULL in the others, so that its index holds those alone.

CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    document BLOB NOT NULL  -- the JSON of core.job_order.Lane
) STRICT;

CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    model TEXT NOT NULL,
    owner INTEGER NOT NULL,  -- the submitter's uid; -1: nobody's
    batch TEXT,
    idempotency_key TEXT,
    tags TEXT,  -- a JSON object; NULL: none
    created_at REAL NOT NULL,
    lane INTEGER,  -- while available, as are the next two
    rank INTEGER,
    queued_at REAL,
    due_at REAL,  -- while scheduled or retryable
    deadline REAL,  -- while waiting
    finished_at REAL,  -- when over
    lease_until REAL,  -- while executing
    claims INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_delta INTEGER NOT NULL DEFAULT 0,
    has_deltas INTEGER NOT NULL DEFAULT 0,
    document BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX job_key ON job (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_state ON job (state, id);
CREATE INDEX job_line ON job (lane, rank, queued_at, id) WHERE lane IS NOT NULL;
CREATE INDEX job_due ON job (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX job_deadline ON job (deadline, id) WHERE deadline IS NOT NULL;
CREATE INDEX job_lease ON job (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX job_batch ON job (batch, state, id) WHERE batch IS NOT NULL;
CREATE INDEX job_over ON job (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_stream ON job (finished_at)
    WHERE finished_at IS NOT NULL AND has_deltas = 1;

-- Large values have tables of their own: an UPDATE of a row writes all of it anew.
CREATE TABLE request (
    job INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE result (
    job INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE attempt (
    job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    document BLOB NOT NULL,  -- the JSON of job_values.AttemptRecord
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_open ON attempt (job) WHERE state = 'open';

CREATE TABLE delta (
    job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    attempt TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (job, id)
) STRICT, WITHOUT ROWID;

-- It outlives its jobs: no reference. Amounts are picodollars.
CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    job TEXT,
    at REAL NOT NULL,
    state TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tags TEXT,
    reserved INTEGER NOT NULL,
    amount INTEGER,  -- NULL: not known
    outcome TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    estimated INTEGER NOT NULL
) STRICT;

CREATE INDEX ledger_at ON ledger (at);
CREATE INDEX ledger_open ON ledger (at, id) WHERE state = 'open';

CREATE TABLE file (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    expires_at REAL,
    owner INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL DEFAULT 0,
    document BLOB NOT NULL  -- the JSON of file_store.StoredFile
) STRICT;

CREATE INDEX file_expires ON file (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE file_part (
    file INTEGER NOT NULL REFERENCES file (seq) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (file, start)
) STRICT;

CREATE TABLE batch (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    owner INTEGER NOT NULL,
    document BLOB NOT NULL  -- the JSON of file_store.Batch
) STRICT, WITHOUT ROWID;

CREATE INDEX batch_age ON batch (created_at, id);

CREATE TABLE flag (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What is written to see whether anything can be.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    word TEXT NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, '');
