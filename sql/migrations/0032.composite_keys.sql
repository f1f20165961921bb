-- A row names its account or endpoint together with its org, so that it can name none of another org: foreign keys know no
-- policies. The four tables that every message writes to have no foreign keys; their rows take the org from the parent's row.
-- Oldest code that may run on it: 0.3.0. It writes both, from the same row.
--
-- Accounts and endpoints are few, and the index of each is made at once. What is there already is checked by the next migration.

alter table accounts add constraint accounts_org_id_id_key unique (org_id, id);
alter table endpoints add constraint endpoints_org_id_id_key unique (org_id, id);

alter table account_changes drop constraint account_changes_account_id_fkey,
    add constraint account_changes_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table profiles drop constraint profiles_account_id_fkey,
    add constraint profiles_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table incoming drop constraint incoming_account_id_fkey,
    add constraint incoming_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table opt_outs drop constraint opt_outs_account_id_fkey,
    add constraint opt_outs_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table qr_tokens drop constraint qr_tokens_account_id_fkey,
    add constraint qr_tokens_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table checkups drop constraint checkups_account_id_fkey,
    add constraint checkups_account_fkey foreign key (org_id, account_id) references accounts (org_id, id) not valid;
alter table endpoint_secrets drop constraint endpoint_secrets_endpoint_id_fkey,
    add constraint endpoint_secrets_endpoint_fkey foreign key (org_id, endpoint_id) references endpoints (org_id, id) not valid;
alter table recoveries drop constraint recoveries_endpoint_id_fkey,
    add constraint recoveries_endpoint_fkey foreign key (org_id, endpoint_id) references endpoints (org_id, id) not valid;
