------------------------------ MODULE Election ------------------------------
(* Which director of a set is active: the rules of src/director/election, without time.            *)
(*                                                                                               *)
(* Each time-out is an action that is possible once what it waits for is so: a director that is  *)
(* down or cut off is silent at some time, and one that the store still hears of is not gone.    *)
(* Faults are counted; what they break is well again in the end.                                 *)
EXTENDS Naturals, FiniteSets

CONSTANTS Directors,    \* numbers from 1, which are cvip.conf's order too
          MaxFaults     \* so many faults and orders, at most

VARIABLES store,        \* who is elected: node, life (which start of its cvipd) and term
          before,       \* who was elected before: what the store may be put back to
          hasLost,      \* the store was emptied or put back
          view,         \* by director: the store, as it was last read
          known,        \* by director: it was read since the start
          role,         \* by director: whether it is active, and in which term
          noted,        \* by director: the term in which it is active, in its file; 0 for none
          givenUp,      \* by director: the latest term that it has given up, in its file
          life,         \* by director: which start of its cvipd it is
          up,           \* the directors that run
          away,         \* the directors that do not reach the store
          cut,          \* the pairs whose heartbeats, from the first to the second, are lost
          heard,        \* by director and other: what was heard last
          faults        \* how many there were

vars == <<store, before, hasLost, view, known, role, noted, givenUp, life, up, away, cut, heard,
          faults>>

NoDirector == [node |-> 0, life |-> 0, term |-> 0]
Standby == [active |-> FALSE, term |-> 0]
Unheard == [how |-> "never", term |-> 0, active |-> FALSE]

Max(S) == CHOOSE x \in S : \A y \in S : y <= x

Init ==
    /\ store = NoDirector /\ before = NoDirector /\ hasLost = FALSE
    /\ view = [d \in Directors |-> NoDirector]
    /\ known = [d \in Directors |-> FALSE]
    /\ role = [d \in Directors |-> Standby]
    /\ noted = [d \in Directors |-> 0]
    /\ givenUp = [d \in Directors |-> 0]
    /\ life = [d \in Directors |-> 1]
    /\ up = Directors /\ away = {} /\ cut = {}
    /\ heard = [d \in Directors |-> [e \in Directors |-> Unheard]]
    /\ faults = 0

-----------------------------------------------------------------------------
(* What a director knows. *)

IsHeard(d, e) == e # d /\ heard[d][e].how = "heard"

Latest(d) == Max({view[d].term, role[d].term, givenUp[d]} \cup {heard[d][e].term : e \in Directors})

IsMine(d) == view[d].node = d
IsMe(d) == IsMine(d) /\ view[d].life = life[d]
MayTake(d, term) == term > givenUp[d]

(* Another is heard to be active in a later term; or in the same one, before this one in order,  *)
(* while the store does not say whose it is.                                                     *)
Superior(d, term) ==
    \E e \in Directors :
        /\ IsHeard(d, e) /\ heard[d][e].active
        /\ \/ heard[d][e].term > term
           \/ heard[d][e].term = term /\ e < d /\ view[d].term # term

(* The elected director is gone: not heard, and neither its lease nor a number by which it       *)
(* vouches for itself comes to the store.                                                        *)
IsGone(d, e) ==
    /\ e \in Directors \ {d} /\ ~IsHeard(d, e)
    /\ e \notin up \/ (e \in away /\ <<e, d>> \in cut)

(* Another directs, or is about to have itself elected: as it is heard, or by its record. *)
AnotherDirects(d) ==
    \E e \in Directors \ {d} :
        \/ IsHeard(d, e) /\ heard[d][e].active /\ heard[d][e].term > view[d].term
        \/ ~IsHeard(d, e) /\ role[e].active /\ e \in up \ away

-----------------------------------------------------------------------------
(* What a director does. *)

Read(d) ==
    /\ d \in up \ away /\ (~known[d] \/ view[d] # store)
    /\ view' = [view EXCEPT ![d] = store]
    /\ known' = [known EXCEPT ![d] = TRUE]
    /\ UNCHANGED <<store, before, hasLost, role, noted, givenUp, life, up, away, cut, heard, faults>>

Says(e) == [how |-> "heard", active |-> role[e].active,
            term |-> IF role[e].active THEN role[e].term ELSE view[e].term]

Hear(d, e) ==
    /\ d # e /\ {d, e} \subseteq up /\ <<e, d>> \notin cut /\ heard[d][e] # Says(e)
    /\ heard' = [heard EXCEPT ![d][e] = Says(e)]
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, away, cut,
                   faults>>

FallsSilent(d, e) ==
    /\ d \in up /\ IsHeard(d, e) /\ (e \notin up \/ <<e, d>> \in cut)
    /\ heard' = [heard EXCEPT ![d][e].how = "silent"]
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, away, cut,
                   faults>>

(* A claim is a compare-and-swap of the term, for director n. *)
Claims(d, n) ==
    LET term == Max({view[d].term, Latest(d)}) + 1 IN
    /\ d \notin away
    /\ IF store.term = view[d].term
       THEN /\ store' = [node |-> n, life |-> life[n], term |-> term]
            /\ before' = store
       ELSE UNCHANGED <<store, before>>
    /\ view' = [view EXCEPT ![d] = store']

Takes(d, term) ==
    /\ role' = [role EXCEPT ![d] = [active |-> TRUE, term |-> term]]
    /\ noted' = [noted EXCEPT ![d] = term]

MustYield(d) ==
    \/ known[d] /\ view[d].node \notin {0, d} /\ view[d].term >= role[d].term
    \/ Superior(d, role[d].term)

Yield(d) ==
    /\ d \in up /\ role[d].active /\ MustYield(d)
    /\ role' = [role EXCEPT ![d] = Standby]
    /\ givenUp' = [givenUp EXCEPT ![d] = Max({@, role[d].term})]
    /\ noted' = [noted EXCEPT ![d] = 0]
    /\ UNCHANGED <<store, before, hasLost, view, known, life, up, away, cut, heard, faults>>

(* The store names this very cvipd, in a term that it has not given up. *)
Take(d) ==
    /\ d \in up /\ known[d] /\ IsMe(d) /\ MayTake(d, view[d].term) /\ ~Superior(d, view[d].term)
    /\ role[d].active => view[d].term > role[d].term
    /\ Takes(d, view[d].term)
    /\ UNCHANGED <<store, before, hasLost, view, known, givenUp, life, up, away, cut, heard, faults>>

(* It was active when it ended, and the store cannot be read. *)
GoOn(d) ==
    /\ d \in up \cap away /\ ~role[d].active /\ ~known[d]
    /\ noted[d] > 0 /\ MayTake(d, noted[d])
    /\ ~\E e \in Directors : IsHeard(d, e) /\ heard[d][e].active
    /\ Takes(d, noted[d])
    /\ UNCHANGED <<store, before, hasLost, view, known, givenUp, life, up, away, cut, heard, faults>>

(* The store was emptied or put back: the active director has itself elected anew. *)
ClaimAnew(d) ==
    /\ d \in up /\ role[d].active /\ known[d] /\ ~MustYield(d)
    /\ view[d].term # role[d].term /\ ~(IsMe(d) /\ view[d].term > role[d].term)
    /\ Claims(d, d)
    /\ UNCHANGED <<hasLost, known, role, noted, givenUp, life, up, away, cut, heard, faults>>

ClaimAsStandby(d) ==
    /\ d \in up /\ ~role[d].active /\ known[d] /\ ~AnotherDirects(d)
    /\ \/ view[d].node = 0
       \/ IsMine(d) /\ ~(IsMe(d) /\ MayTake(d, view[d].term)) /\ ~Superior(d, view[d].term)
       \/ IsGone(d, view[d].node)
    /\ Claims(d, d)
    /\ UNCHANGED <<hasLost, known, role, noted, givenUp, life, up, away, cut, heard, faults>>

-----------------------------------------------------------------------------
(* Faults and orders, each counted; and that what they break is well again. *)

Counted == faults < MaxFaults /\ faults' = faults + 1

HandOver(d, e) ==
    /\ Counted /\ d \in up /\ role[d].active /\ e \in up \ away /\ IsHeard(d, e)
    /\ view[d].term = role[d].term
    /\ Claims(d, e)
    /\ UNCHANGED <<hasLost, known, role, noted, givenUp, life, up, away, cut, heard>>

(* What it noted may be lost with it: its machine was rebooted. *)
Die(d, isRebooted) ==
    /\ Counted /\ d \in up
    /\ up' = up \ {d}
    /\ role' = [role EXCEPT ![d] = Standby]
    /\ noted' = [noted EXCEPT ![d] = IF isRebooted THEN 0 ELSE @]
    /\ givenUp' = [givenUp EXCEPT ![d] = IF isRebooted THEN 0 ELSE @]
    /\ view' = [view EXCEPT ![d] = NoDirector]
    /\ known' = [known EXCEPT ![d] = FALSE]
    /\ heard' = [heard EXCEPT ![d] = [e \in Directors |-> Unheard]]
    /\ UNCHANGED <<store, before, hasLost, life, away, cut>>

Start(d) ==
    /\ d \notin up /\ up' = up \cup {d}
    /\ life' = [life EXCEPT ![d] = @ + 1]
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, away, cut, heard,
                   faults>>

Leave(d) ==
    /\ Counted /\ d \notin away /\ away' = away \cup {d}
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, cut, heard>>

ComeBack(d) ==
    /\ d \in away /\ away' = away \ {d}
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, cut, heard,
                   faults>>

Cut(e, d) ==
    /\ Counted /\ e # d /\ <<e, d>> \notin cut /\ cut' = cut \cup {<<e, d>>}
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, away, heard>>

Join(e, d) ==
    /\ <<e, d>> \in cut /\ cut' = cut \ {<<e, d>>}
    /\ UNCHANGED <<store, before, hasLost, view, known, role, noted, givenUp, life, up, away, heard,
                   faults>>

LoseStore ==
    /\ Counted /\ store' \in {NoDirector, before} /\ store' # store
    /\ hasLost' = TRUE
    /\ UNCHANGED <<before, view, known, role, noted, givenUp, life, up, away, cut, heard>>

-----------------------------------------------------------------------------
Acts(d) ==
    \/ Read(d) \/ Yield(d) \/ Take(d) \/ GoOn(d) \/ ClaimAnew(d) \/ ClaimAsStandby(d)
    \/ \E e \in Directors : Hear(d, e) \/ FallsSilent(d, e)

IsWellAgain(d) == Start(d) \/ ComeBack(d) \/ \E e \in Directors : Join(d, e)

Fault ==
    \/ LoseStore
    \/ \E d \in Directors :
        \/ Leave(d) \/ \E b \in BOOLEAN : Die(d, b)
        \/ \E e \in Directors : HandOver(d, e) \/ Cut(d, e)

Next == Fault \/ \E d \in Directors : Acts(d) \/ IsWellAgain(d)

Fairness ==
    \A d \in Directors :
        /\ WF_vars(Read(d)) /\ WF_vars(Yield(d)) /\ WF_vars(Take(d)) /\ WF_vars(ClaimAnew(d))
        /\ WF_vars(ClaimAsStandby(d)) /\ WF_vars(Start(d)) /\ WF_vars(ComeBack(d))
        /\ \A e \in Directors :
            WF_vars(Hear(d, e)) /\ WF_vars(FallsSilent(d, e)) /\ WF_vars(Join(d, e))

Spec == Init /\ [][Next]_vars /\ Fairness

-----------------------------------------------------------------------------
Active == {d \in up : role[d].active}

(* Safety: no term has two directors, unless the store has lost terms. *)
OneDirectorInATerm ==
    \A d, e \in Active : d # e /\ role[d].term = role[e].term => hasLost

(* Safety: of two that are active, the lower one is told of the higher one, as soon as what keeps *)
(* that from it is well again: the store names it, or its heartbeats do.                          *)
HigherTermIsUnderWay ==
    \A d, e \in Active :
        role[d].term < role[e].term =>
            \/ store.term > role[d].term /\ store.node # d
            \/ Says(e).active /\ Says(e).term > role[d].term

(* Safety: a term that was given up is never taken again. *)
NoTermTwice == [][\A d \in Directors : role'[d].active /\ ~role[d].active => role'[d].term > givenUp[d]]_vars

(* Safety: the terms of the store only grow, but where it loses some. *)
TermsGrow == [][store'.term >= store.term \/ hasLost']_vars

(* Liveness: faults end, since they are counted; then one is active, and all agree. *)
Agreed ==
    /\ up = Directors /\ Cardinality(Active) = 1
    /\ \A d \in Active : store.node = d /\ store.term = role[d].term
    /\ \A d \in Directors : known[d] /\ view[d] = store

Settles == <>[]Agreed
=============================================================================
