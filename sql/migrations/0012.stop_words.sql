-- STOP words: those that an org adds to the listed ones, and those of them that it ignores.
-- Oldest code that may run on it: 0.3.0. It heeds the listed words alone.

alter table orgs
    add column added_stop_words text[] not null default '{}',
    add column ignored_stop_words text[] not null default '{}';
comment on column orgs.added_stop_words is 'What its people write beside the listed stop words, as it was given.';
comment on column orgs.ignored_stop_words is 'Listed stop words that are no opt-out for it, as they were given.';
