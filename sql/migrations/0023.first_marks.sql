-- Has the pulse look at every lane once. A migration of its own, since the triggers must be at work before it begins.
-- Oldest code that may run on it: 0.3.0.

insert into lane_marks (due_at, lane_id, org_id) select now(), id, org_id from lanes;
