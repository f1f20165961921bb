-- Checkups: an account's page looked at for `postrider doctor`, by whoever has it open.
-- Oldest code that may run on it: 0.3.0. It answers no checkup, which doctor then says.

create table checkups (
    account_id  text primary key references accounts,
    org_id      text not null references orgs,
    wanted_at   timestamptz not null default now(),
    answered_at timestamptz,
    worker      text,
    answer      jsonb
);
comment on table checkups is 'The last time that somebody wanted an account''s page looked at, and what was found.';
comment on column checkups.account_id is 'The account.';
comment on column checkups.org_id is 'The org it belongs to.';
comment on column checkups.wanted_at is 'When somebody asked last.';
comment on column checkups.answered_at is 'When it was answered last; before wanted_at, the last wish is still open.';
comment on column checkups.worker is 'The worker that answered.';
comment on column checkups.answer is 'What it found: screen, elements and ticks; nothing that people wrote.';
