-- STOP words: those that an org adds to the listed ones, those of them that it ignores, and its confirmation of an opt-out.
-- Oldest code that may run on it: 0.3.0. It heeds the listed words alone, and lets no confirmation through.

alter table orgs
    add column added_stop_words text[] not null default '{}',
    add column ignored_stop_words text[] not null default '{}',
    add column opt_out_reply text;
comment on column orgs.added_stop_words is 'What its people write beside the listed stop words, as it was given.';
comment on column orgs.ignored_stop_words is 'Listed stop words that are no opt-out for it, as they were given.';
comment on column orgs.opt_out_reply is 'What people who opt out by a stop word are sent, once; null is nothing.';

alter table opt_outs add column reply_job text;
comment on column opt_outs.reply_job is
    'The job that confirms it, and is sent all the same; null when nothing confirms it. A job may be forgotten before.';
