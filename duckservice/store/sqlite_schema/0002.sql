-- Version 2: the ledger knows who asked, for budgets of one submitter.

ALTER TABLE ledger ADD COLUMN submitter INTEGER;  -- a uid; NULL: not known

UPDATE ledger SET submitter = (
    SELECT nullif(job.owner, -1) FROM job WHERE job.id = ledger.job
) WHERE job IS NOT NULL;
