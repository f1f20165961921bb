-- Logins: one that WhatsApp has ended, or seems to have, is kept until a new one has taken its place; and what a browser
-- weighs from its beginning.
-- Oldest code that may run on it: 0.3.0. It deletes such a login at once, and restores none that is kept.

alter table profiles add column kept_since timestamptz;
comment on column profiles.kept_since is
    'Since when it is kept for a person to go back to: its page asked for a phone. Null is the account''s present login.';

alter table accounts add column heavy_mb integer;
comment on column accounts.heavy_mb is
    'What its open browser takes, where that was above MEMORY_LIMIT_MB from its beginning; null where it is not.';
