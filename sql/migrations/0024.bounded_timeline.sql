-- Bounds jobs.timeline: a job whose account has to wait again and again got two more entries each time, without end.
-- Oldest code that may run on it: 0.3.0. Its own queries append by step(), and bound nothing.

create function with_step(p_timeline jsonb, p_status text, p_detail text default null) returns jsonb language sql stable as $$
    select case when jsonb_array_length(p_timeline) < 100 then p_timeline else (
        select jsonb_agg(entry order by place)
        from jsonb_array_elements(p_timeline) with ordinality as entries (entry, place)
        where place <= 20 or place > jsonb_array_length(p_timeline) - 79
    ) end || step(p_status, p_detail)
$$;
comment on function with_step(jsonb, text, text) is
    'A timeline with one more entry. Of more than 100 entries the first 20 and the newest 80 stay.';
